"""Measuring: retrieval, the relevance floor, and how fast things are."""
