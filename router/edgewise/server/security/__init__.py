"""Who may use the server, and how: each file is one check, made before any endpoint."""
