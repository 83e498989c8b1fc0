"""Whether the flags name the images of every domain that a model needs, each exactly once."""

from __future__ import annotations

import os

from translate.data.options import DataOptions
from translate.data.synthesis import parse
from translate.domains import BatchSpec
from translate.errors import UsageError


def check_flags(batch_spec: BatchSpec, options: DataOptions) -> None:
    """Raises UsageError unless the flags name the images of every domain exactly once."""
    pair = {"--data": options.data, "--a": options.a, "--b": options.b}
    pair |= {"--test-data": options.test_data, "--test-a": options.test_a, "--test-b": options.test_b}
    single = {"--images": options.images, "--test-images": options.test_images}
    two = len(batch_spec.names) == 2
    for flag, value in (single if two else pair).items():
        if value is not None:
            wanted = "two domains: give --a and --b, or --data" if two else "one domain: give --images"
            raise UsageError(f"{flag} does not fit: this model has {wanted}.")
    if options.swap and options.data is None:
        raise UsageError("--swap exchanges the two sides of --data; with --a and --b, exchange the two yourself.")
    if not two:
        if options.images is None:
            raise UsageError("No images: give --images DOMAIN, a folder, an archive or the name of a domain.")
    elif options.data is not None:
        if options.a is not None or options.b is not None:
            raise UsageError("--data holds both domains, so --a and --b do not go with it; give one or the other.")
        if options.test_a is not None or options.test_b is not None:
            raise UsageError("--test-a and --test-b go with --a and --b; with --data, give --test-data.")
    elif options.a is None or options.b is None:
        given = " --a without --b." if options.a else " --b without --a." if options.b else ""
        raise UsageError(f"Two domains are needed:{given or ' none is given.'} Give --a and --b, or --data for both.")
    if options.test_data is not None and options.data is None:
        raise UsageError("--test-data goes with --data; with --a and --b, give --test-a and --test-b.")


def find_synthesis(batch_spec: BatchSpec, options: DataOptions) -> dict[str, str]:
    """The domain that is made from the other one and how, as in {"a": "gray(b)"}; empty if both have images.

    Raises UsageError if a domain has nothing to be made from.
    """
    flags = {"--a": options.a, "--b": options.b} if len(batch_spec.names) == 2 else {"--images": options.images}
    found = {}
    for name, (flag, text) in zip(batch_spec.names, flags.items(), strict=True):
        synthesis = None if text is None or os.path.exists(os.path.expanduser(text)) else parse(text)
        if text is None or synthesis is None:
            continue
        if synthesis.source not in batch_spec.names or len(batch_spec.names) == 1:
            domains = (
                f"its domains are {' and '.join(batch_spec.names)}"
                if len(batch_spec.names) > 1
                else "it has one domain"
            )
            raise UsageError(f"{flag} {text!r} is made from a domain that this model has not: {domains}.")
        if synthesis.source == name:
            raise UsageError(f"{flag} {text!r} makes a domain from itself; name the other one in the parentheses.")
        found[name] = text
    if len(found) == 2:
        raise UsageError("--a and --b are made from each other; give images for one of them.")
    return found
