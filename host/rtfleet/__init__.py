"""rtfleet: does this speech model meet its budget on this device, and how sure are we?"""

from rtfleet.model import Input, SpeechModel, State

__all__ = ["Input", "SpeechModel", "State"]
