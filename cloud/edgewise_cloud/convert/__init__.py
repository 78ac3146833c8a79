"""Converting a checkpoint to a device model, and measuring what that costs in quality."""
