"""From files on a disk to checked pictures."""
