"""The cloud service: its peers, its steps, its front ends."""
