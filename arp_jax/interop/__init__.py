"""Published PyTorch weights -> our parameter trees, with a report of every tensor."""
