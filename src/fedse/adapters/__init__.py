"""LoRA adapters as data: state, files, checks and algebra in factored form.  No torch."""
