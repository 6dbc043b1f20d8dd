// The state after a token is an output: `shown(at, row)` is read, and nothing is computed again.
template <class Shown, class Reverse>
inline void backwards_over(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* kept,
    const std::uint8_t* reset, const real* d_after, real* d_constants, real* d_initial, real* d_before,
    Shown shown, Reverse reverse) {
    const auto turn = [=](std::int64_t b, std::int64_t first, std::int64_t, real*, real* scratch, auto back) {
        for (std::int64_t t = time - 1; t >= 0; --t) {
            const std::int64_t at = b * time + t;
            const auto before = [=](std::int64_t r) -> const real* {
                if (reset && reset[at]) return initial + (first + r) * STATE;
                return t ? shown(at - 1, first + r) : kept + (b * ROWS + first + r) * STATE;
            };
            back(at, [=](std::int64_t r, const real* d_after, real* d_before, real* d_shared) {
                reverse(at, first + r, before(r), shown(at, first + r), d_after, d_before, d_shared, scratch);
            });
        }
    };
    backwards(threads, batch, reset, d_after, d_constants, d_initial, d_before, 0, turn);
}
