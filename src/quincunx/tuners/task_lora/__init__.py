"""LoRA with one pair of matrices for all tasks or one for each, and the model's biases if they are wanted."""
