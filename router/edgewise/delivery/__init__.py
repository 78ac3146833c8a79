"""Models that reach this device: fetched, verified, tried, then used. Imported only when needed."""
