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

// Begins to load the numbers of a later token, which lie apart from those of this one.
template <std::int64_t count>
[[maybe_unused]] inline void soon([[maybe_unused]] const real* from) {
#ifdef __GNUC__
    for (std::int64_t k = 0; k < count; k += 64 / sizeof(real)) __builtin_prefetch(from + k);
#endif
}

// `token(at, row, before, after, scratch)` is called for every token `at` of every row of the batch.
template <class Token>
inline void forwards(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* before,
    const std::uint8_t* reset, real* after, real* kept, Token token) {
    const std::int64_t states = (time + KEPT - 1) / KEPT;
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
                if (kept && t % KEPT == 0) {
                    std::copy_n(now + r * STATE, STATE, kept + ((place + r) * states + t / KEPT) * STATE);
                }
                token(at, first + r, now + r * STATE, later + r * STATE, scratch);
            }
            std::swap(now, later);
        }
        std::copy_n(now, size, after + place * STATE);
    });
}

// `turn(b, first, rows, history, scratch, back)` goes through the tokens of some rows with `back(at, reverse)`, from the
// last to the first; `reverse(r, d_after, d_before, d_shared)` is called for each of the rows.
template <class Turn>
inline void backwards(
    int threads, std::int64_t batch, const std::uint8_t* reset, const real* d_after, real* d_constants,
    real* d_initial, real* d_before, std::int64_t history, Turn turn) {
    std::fill_n(d_constants, batch * ROWS * SHARED, real(0));
    std::fill_n(d_initial, batch * ROWS * STATE, real(0));
    shared_out(threads, batch, [=](std::int64_t b, std::int64_t first, std::int64_t rows) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        const std::unique_ptr<real[]> memory(new real[(history + 2) * size + SCRATCH]);
        real* now = memory.get();
        real* later = BACKWARDS_IN_PLACE ? now : now + size;
        real* const scratch = memory.get() + (history + 2) * size;
        std::copy_n(d_after + place * STATE, size, now);
        turn(b, first, rows, memory.get() + 2 * size, scratch, [&](std::int64_t at, auto reverse) {
            for (std::int64_t k = 0; k < rows; ++k) {
                const std::int64_t r = LAST_ROW_FIRST ? rows - 1 - k : k;
                reverse(r, now + r * STATE, later + r * STATE, d_constants + (place + r) * SHARED);
            }
            std::swap(now, later);
            if (reset && reset[at]) {
                for (std::int64_t k = 0; k < size; ++k) d_initial[place * STATE + k] += now[k];
                std::fill_n(now, size, real(0));
            }
        });
        std::copy_n(now, size, d_before + place * STATE);
    });
}
