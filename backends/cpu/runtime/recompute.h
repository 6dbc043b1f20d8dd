// States are computed again, a segment at a time, by `advance(at, row, before, after, scratch)`: first those at the
// beginnings of the segments between two states that are kept, then those around every token.
template <class Advance, class Reverse>
inline void backwards_again(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* kept,
    const std::uint8_t* reset, const real* d_after, real* d_constants, real* d_initial, real* d_before,
    Advance advance, Reverse reverse) {
    const std::int64_t states = (time + KEPT - 1) / KEPT;
    const auto turn = [=](
        std::int64_t b, std::int64_t first, std::int64_t rows, real* history, real* scratch, auto back) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        real* const begun = history + (SEGMENT + 1) * size;
        const auto before = [=](std::int64_t begin, std::int64_t i, std::int64_t r) -> const real* {
            return reset && reset[begin + i] ? initial + (first + r) * STATE : history + i * size + r * STATE;
        };
        const auto filled = [=](std::int64_t s, std::int64_t begin, std::int64_t count) {
            std::copy_n(begun + s * size, size, history);
            for (std::int64_t i = 0; i < count; ++i) {
                for (std::int64_t r = 0; r < rows; ++r) {
                    real* const after = history + (i + 1) * size + r * STATE;
                    advance(begin + i, first + r, before(begin, i, r), after, scratch);
                }
            }
        };
        for (std::int64_t k = states - 1; k >= 0; --k) {
            const std::int64_t start = b * time + k * KEPT, length = std::min(KEPT, time - k * KEPT);
            const std::int64_t last = (length - 1) / SEGMENT;
            for (std::int64_t r = 0; r < rows; ++r) {
                std::copy_n(kept + ((place + r) * states + k) * STATE, STATE, begun + r * STATE);
            }
            for (std::int64_t s = 0; s < last; ++s) {
                filled(s, start + s * SEGMENT, SEGMENT);
                std::copy_n(history + SEGMENT * size, size, begun + (s + 1) * size);
            }
            for (std::int64_t s = last; s >= 0; --s) {
                const std::int64_t begin = start + s * SEGMENT, count = std::min(SEGMENT, length - s * SEGMENT);
                filled(s, begin, count);
                for (std::int64_t i = count - 1; i >= 0; --i) {
                    back(begin + i, [=](std::int64_t r, const real* d_after, real* d_before, real* d_shared) {
                        reverse(
                            begin + i, first + r, before(begin, i, r), history + (i + 1) * size + r * STATE, d_after,
                            d_before, d_shared, scratch);
                    });
                }
            }
        }
    };
    backwards(
        threads, batch, reset, d_after, d_constants, d_initial, d_before, SEGMENT + 1 + KEPT / SEGMENT,
        turn);
}
