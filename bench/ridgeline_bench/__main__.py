"""`python -m ridgeline_bench URL` is `ridgeline bench URL`."""

from ridgeline_bench.cli import app

if __name__ == "__main__":
    app(prog_name="ridgeline bench")
