"""What trained networks make of images: answers, features, neighbours, pictures, files."""
