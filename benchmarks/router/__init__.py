"""What the router costs, and how well it predicts and hands over."""
