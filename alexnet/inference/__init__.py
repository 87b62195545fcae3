"""What a trained network says of images: answers, features, neighbours, activations."""
