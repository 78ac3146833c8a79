"""`make demo`: how the router chooses, with real prompts and a real cloud service on loopback."""
