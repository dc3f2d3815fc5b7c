"""`Graph`: directed and bidirected edges without numbers; its questions, its text, its drawing."""
