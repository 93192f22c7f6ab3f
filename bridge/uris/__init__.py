"""What a URI names, as blobs to be: found and checked first, read later."""
