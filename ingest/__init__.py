"""Files to chunks to index, and what was done about each file."""
