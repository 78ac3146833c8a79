"""Who may connect: TLS, bearer tokens, and the rules for each bind address."""
