"""From a URI to batches on the training workers: Ray Data reads, decodes and masks images on the whole cluster."""
