"""Files -> decoded images -> batches on the device.

    options     what the user may say about the data: flags
    domains     what a model needs to see, and how a domain is described to it
    sources     a folder, an archive or one file, as an ordered list of entries
    datasets    domains that plugins offer by name, made once into a cache folder
    layouts     which entries belong to which domain: recognised, never asked for
    images      bytes <-> uint8 tensors
    store       every image decoded once into one resident uint8 tensor
    sampling    which image comes when, and with which crop and flip: pure functions of the seed
    loading     START HERE: all of it together, `open_training_data` and `TrainingData.batch(step)`

This file imports nothing, so that the command line can build its flags from `options` without torch.
"""
