"""As much of curl as the pages use, for machines without it: -s, -H, -d, -X and one address."""

import sys
import urllib.request
from itertools import pairwise


def main(words: list[str]) -> None:
    """Ask, and print the answer."""
    options = list(pairwise(words))
    headers = dict(value.split(": ", 1) for word, value in options if word == "-H")
    given = dict(options)
    data = given["-d"].encode() if "-d" in given else None
    method = given.get("-X", "GET" if data is None else "POST")
    url = next(word for word in words if word.startswith("http://"))
    request = urllib.request.Request(url, data, headers, method=method)
    sys.stdout.write(urllib.request.urlopen(request, timeout=60).read().decode())


if __name__ == "__main__":
    main(sys.argv[1:])
