"""Where the project lies, and what its set-up brings."""
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def setup(what):
    """tools/setup WHAT -> what it prints: a folder, or a program."""
    return subprocess.run([os.path.join(ROOT, "tools", "setup"), what], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
