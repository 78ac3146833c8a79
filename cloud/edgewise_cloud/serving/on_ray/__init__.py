"""The service on Ray Serve: replicas of the engine on many machines, behind one address."""
