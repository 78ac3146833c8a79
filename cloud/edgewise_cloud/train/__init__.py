"""Training and fine-tuning: vocabulary, loop, optimizers, progress, resuming."""
