// States are computed again, a segment at a time, by `advance(at, row, before, after, scratch)`.
template <class Advance, class Reverse>
inline void backwards_again(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* kept,
    const std::uint8_t* reset, const real* d_after, real* d_constants, real* d_initial, real* d_before,
    Advance advance, Reverse reverse) {
    const std::int64_t segments = (time + SEGMENT - 1) / SEGMENT;
    const auto turn = [=](
        std::int64_t b, std::int64_t first, std::int64_t rows, real* history, real* scratch, auto back) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
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
                back(
                    begin + i, [=](std::int64_t r) { return before(i, r); },
                    [=](std::int64_t r) { return history + (i + 1) * size + r * STATE; });
            }
        }
    };
    backwards(
        threads, batch, reset, d_after, d_constants, d_initial, d_before, SEGMENT + 1, turn, reverse);
}
