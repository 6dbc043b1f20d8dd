// The loops over time.  Rows are independent of one another, so that how they are cut into work changes no result.

template <class Work>
inline void shared_out(int threads, std::int64_t batch, Work work) {
    const std::int64_t group = std::min(GROUP, std::max<std::int64_t>(1, batch * ROWS / threads));
    const std::int64_t groups = (ROWS + group - 1) / group;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (std::int64_t unit = 0; unit < batch * groups; ++unit) {
        const std::int64_t first = unit % groups * group;
        work(unit / groups, first, std::min(group, ROWS - first));
    }
}

// `token(at, row, before, after, scratch)` is called for every token `at` of every row of the batch.
template <class Token>
inline void forwards(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* before,
    const std::uint8_t* reset, real* after, real* kept, Token token) {
    const std::int64_t segments = (time + SEGMENT - 1) / SEGMENT;
    shared_out(threads, batch, [=](std::int64_t b, std::int64_t first, std::int64_t rows) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        const std::unique_ptr<real[]> memory(new real[2 * size + SCRATCH]);
        real* now = memory.get();
        real* later = FORWARDS_IN_PLACE ? now : now + size;
        real* const scratch = memory.get() + 2 * size;
        std::copy_n(before + place * STATE, size, now);
        for (std::int64_t t = 0; t < time; ++t) {
            const std::int64_t at = b * time + t;
            if (reset && reset[at]) std::copy_n(initial + first * STATE, size, now);
            for (std::int64_t r = 0; r < rows; ++r) {
                if (kept && t % SEGMENT == 0) {
                    std::copy_n(now + r * STATE, STATE, kept + ((place + r) * segments + t / SEGMENT) * STATE);
                }
                token(at, first + r, now + r * STATE, later + r * STATE, scratch);
            }
            std::swap(now, later);
        }
        std::copy_n(now, size, after + place * STATE);
    });
}

// States are computed again, a segment at a time, by `advance(at, row, before, after, scratch)`; then
// `reverse(at, row, before, after, d_after, d_before, d_shared, scratch)` is called from the last token to the first.
template <class Advance, class Reverse>
inline void backwards(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* kept,
    const std::uint8_t* reset, const real* d_after, real* d_constants, real* d_initial, real* d_before,
    Advance advance, Reverse reverse) {
    const std::int64_t segments = (time + SEGMENT - 1) / SEGMENT;
    std::fill_n(d_constants, batch * ROWS * SHARED, real(0));
    std::fill_n(d_initial, batch * ROWS * STATE, real(0));
    shared_out(threads, batch, [=](std::int64_t b, std::int64_t first, std::int64_t rows) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        const std::unique_ptr<real[]> memory(new real[(SEGMENT + 3) * size + SCRATCH]);
        real* const history = memory.get();
        real* now = history + (SEGMENT + 1) * size;
        real* later = BACKWARDS_IN_PLACE ? now : now + size;
        real* const scratch = history + (SEGMENT + 3) * size;
        std::copy_n(d_after + place * STATE, size, now);
        for (std::int64_t s = segments - 1; s >= 0; --s) {
            const std::int64_t begin = b * time + s * SEGMENT, count = std::min(SEGMENT, time - s * SEGMENT);
            const auto before = [=](std::int64_t i, std::int64_t r) -> const real* {
                return reset && reset[begin + i] ? initial + (first + r) * STATE : history + i * size + r * STATE;
            };
            for (std::int64_t r = 0; r < rows; ++r) {
                std::copy_n(kept + ((place + r) * segments + s) * STATE, STATE, history + r * STATE);
            }
            for (std::int64_t i = 0; i < count; ++i) {
                for (std::int64_t r = 0; r < rows; ++r) {
                    advance(begin + i, first + r, before(i, r), history + (i + 1) * size + r * STATE, scratch);
                }
            }
            for (std::int64_t i = count - 1; i >= 0; --i) {
                for (std::int64_t r = 0; r < rows; ++r) {
                    reverse(
                        begin + i, first + r, before(i, r), history + (i + 1) * size + r * STATE, now + r * STATE,
                        later + r * STATE, d_constants + (place + r) * SHARED, scratch);
                }
                std::swap(now, later);
                if (reset && reset[begin + i]) {
                    for (std::int64_t k = 0; k < size; ++k) d_initial[place * STATE + k] += now[k];
                    std::fill_n(now, size, real(0));
                }
            }
        }
        std::copy_n(now, size, d_before + place * STATE);
    });
}
