"""Devices that are not there: a phone behind the real adb."""
