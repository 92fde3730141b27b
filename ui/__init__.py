"""Every way in, for a person or a program: the page, the HTTP API, the commands."""
