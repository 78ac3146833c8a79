"""The edge runtime: its peers, its own cost."""
