"""The router's own endpoints: decisions, generations with their decisions, the device."""
