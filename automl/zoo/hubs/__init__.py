"""Networks of timm, torchvision and transformers, where these are installed."""
