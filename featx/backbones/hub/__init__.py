"""KerasHub's networks, from folders as KerasHub and Hugging Face write them."""
