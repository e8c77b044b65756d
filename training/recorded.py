"""Recorded human speech for counting false alarms: files of any format in a folder -> DATA/recorded/<name>.wav.

    python training/recorded.py --data /tmp/wake-word FOLDER...

Used for the figures: the prompts of Debian's asterisk-core-sounds-{en,es,fr}-g722 (/usr/share/asterisk/sounds), five
LibriVox sentences from the sdist of pocketsphinx 5.1.1 (test/data/librivox), and the two clips of the moonshine-voice
0.0.59 wheel (assets). Nobody in them says the phrase. A folder becomes one file, with pauses of 0.3 s.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from engines import SAMPLE_RATE_HZ, Audio
from scipy.io import wavfile

SUFFIXES = (".g722", ".wav", ".flac")


def decoded(path: Path) -> Audio:
    """The file as mono float32 at 16 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32) / 32768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    target = arguments.data / "recorded"
    target.mkdir(parents=True, exist_ok=True)
    pause = np.zeros(SAMPLE_RATE_HZ * 3 // 10, np.float32)
    for folder in arguments.folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and "silence" not in path.parts)
        audio = np.concatenate([part for path in files for part in (decoded(path), pause)])
        wavfile.write(target / f"{folder.name}.wav", SAMPLE_RATE_HZ, (audio * 32767).astype(np.int16))
        print(f"{folder.name}: {len(files)} files, {len(audio) / SAMPLE_RATE_HZ / 60:.1f} minutes")


if __name__ == "__main__":
    main()
