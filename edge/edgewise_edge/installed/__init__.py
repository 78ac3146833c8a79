"""The models installed on this device: what is active, staged or on probation, and the way back."""
