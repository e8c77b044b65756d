"""How a bundle is made: pinned parts, fetched and checked, laid out as one folder that needs nothing of the device."""
