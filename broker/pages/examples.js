// Programs to begin with.

export const EXAMPLES = {
  "A chart": `import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
for shift in range(4):
    plt.plot(x, np.sin(x + shift) * np.exp(-x / 8), label=f"shift {shift}")
plt.title("Four waves, fading")
plt.legend()
plt.savefig("waves.png", dpi=120)
print("mean of the last one:", round(float(np.mean(np.sin(x + 3))), 4))
`,
  "Output as it comes": `import sys
import time

for number in range(1, 11):
    print(number, "squared is", number * number)
    time.sleep(0.3)
print("done", file=sys.stderr)
`,
  "A table": `import pandas as pd

sales = pd.DataFrame(
    {"team": ["red", "blue", "red", "green", "blue"], "items": [3, 5, 4, 1, 7]}
)
summary = sales.groupby("team")["items"].agg(["count", "sum"])
summary.to_csv("summary.csv")
summary
`,
  "Read the files": `from pathlib import Path

for path in sorted(Path().iterdir()):
    print(path, path.stat().st_size, "bytes")
`,
  "What a program cannot do": `import os
import socket

for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: open("/etc/shadow").read(),
    lambda: os.kill(1, 9),
):
    try:
        print("worked:", attempt())
    except OSError as error:
        print(type(error).__name__, error)
`,
};
