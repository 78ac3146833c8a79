"""The edge runtime: its peers, its own cost, its older target."""
