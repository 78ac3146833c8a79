"""Training and fine-tuning: vocabulary, training loop, optimizers, progress, resuming."""
