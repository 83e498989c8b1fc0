"""Files -> decoded images -> batches on the device. In reading order:

    options       what the user may say about the data: flags
    domains       what a model needs to see, and how a domain is described to it
    loading       START HERE: all of it together, `open_training_data`

    Which files there are
    sources       a folder, an archive read in place, or one file, as an ordered list of entries
    cards         public data sets: where they are, what may be done with them, whom to cite
    downloads     one file from the net, which breaks off and goes on, checked before use
    unpacking     from a data set's archives to folders of images
    datasets      domains that have names, made once in the cache folder: `resolve`
    pairs         which images belong together: by name, or by a list
    sides         what is at a place that the user named: one domain, or two
    layouts       which entries belong to which domain: recognised, never asked for

    From files to pixels, and back
    images        operations on images as tensors
    readers       bytes -> tensors
    writers       tensors -> files, complete or absent
    preparing     the sizes and the pixels that images of a domain have

    From pixels to batches
    store         the decoded images of a domain: on the device, in memory, or in a mapped file
    decoding      every file decoded once, into stores
    cached_stores the mapped files in the cache folder
    sampling      which image comes when, and which part of it: pure functions of the seed
    cropping      these parts as a batch
    augmentation  what else `--augment` does to it: albumentations by threads, kornia on the device
    synthesis     degraded images made from good ones: "gray(b)"
    training_data `TrainingData.batch(step)`

    `translate data check`
    inspecting    every image decoded once, and a few numbers of it kept
    findings      what is wrong with them, or may not be meant so
    checking      the report, and a contact sheet

This file imports nothing, so that the command line can build its flags from `options` without torch.
"""
