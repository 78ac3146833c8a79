"""The service on Ray Serve: replicas of the engine on several machines, behind one address."""
