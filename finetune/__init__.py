"""Making the local model better on the user's own documents. Nothing here yet."""
