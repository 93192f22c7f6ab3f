"""From URIs to stored blobs: resolution, conversion, and puts with a report."""
