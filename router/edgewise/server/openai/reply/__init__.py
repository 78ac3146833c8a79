"""What replies are made of, for all endpoints."""
