"""Peak memory and time of one teacher-student run at n pairs.

    python benchmarks/theory/peak_memory.py 10000000

Prints the wall time, the peak resident set of the process and the error, which must agree with the
first-order theory.
"""

from __future__ import annotations

import resource
import sys
import time

from selffilter.theory import BimodalModel, FirstOrder, Pool, representation_error, teacher_student


def main(n: int) -> None:
    """Run once and print."""
    model = BimodalModel(clean_share=0.1)
    begin = time.perf_counter()
    student = teacher_student(Pool(model, n, seed=0), threshold=0.0, split=False)
    seconds = time.perf_counter() - begin
    # Read before the Monte Carlo of the prediction; ru_maxrss is in KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    error = representation_error(student, model)
    expected = FirstOrder(model).kept_above(0.0, n)
    print(
        f"n={n:,}: {seconds:.1f} s, peak {peak:.0f} MiB, error {error:.3e}, theory {expected:.3e}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
