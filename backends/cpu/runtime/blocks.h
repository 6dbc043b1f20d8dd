// The same, `BLOCK` tokens at a time where no state begins anew between them.

// Begins to load the tokens of a later block, `stride` numbers apart.
template <int tokens, int count, std::int64_t stride>
[[maybe_unused]] inline void soon_block(const real* from) {
    for (int i = 0; i < tokens; ++i) soon<count>(from + i * stride);
}

// Whether the tokens from `t` on, the `at`th of all, are a whole block.
inline bool is_block(std::int64_t t, std::int64_t at, std::int64_t time, const std::uint8_t* reset) {
    if (t % BLOCK || t + BLOCK > time) return false;
    for (std::int64_t i = 1; reset && i < BLOCK; ++i) {
        if (reset[at + i]) return false;
    }
    return true;
}

// `token` and `block(at, row, before, after, scratch)` are called for every token or block of every row of the batch.
template <class Token, class Block>
inline void forwards_in_blocks(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* before,
    const std::uint8_t* reset, real* after, real* kept, Token token, Block block) {
    const std::int64_t states = (time + KEPT - 1) / KEPT;
    shared_out(threads, batch, [=](std::int64_t b, std::int64_t first, std::int64_t rows) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        const std::unique_ptr<real[]> memory(new real[2 * size + SCRATCH]);
        real* now = memory.get();
        real* later = FORWARDS_IN_PLACE ? now : now + size;
        real* const scratch = memory.get() + 2 * size;
        std::copy_n(before + place * STATE, size, now);
        for (std::int64_t t = 0, step = 1; t < time; t += step) {
            const std::int64_t at = b * time + t;
            const bool whole = is_block(t, at, time, reset);
            step = whole ? BLOCK : 1;
            if (reset && reset[at]) std::copy_n(initial + first * STATE, size, now);
            for (std::int64_t r = 0; r < rows; ++r) {
                real* const from = now + r * STATE;
                if (kept && t % KEPT == 0) {
                    std::copy_n(from, STATE, kept + ((place + r) * states + t / KEPT) * STATE);
                }
                if (whole) {
                    block(at, first + r, from, later + r * STATE, scratch);
                } else {
                    token(at, first + r, from, later + r * STATE, scratch);
                }
            }
            std::swap(now, later);
        }
        std::copy_n(now, size, after + place * STATE);
    });
}

// States are computed again: those at the beginnings of the blocks between two states that are kept, and those around
// every token of a block that is not whole.
template <class Advance, class Reverse, class AdvanceBlock, class ReverseBlock>
inline void backwards_in_blocks(
    int threads, std::int64_t batch, std::int64_t time, const real* initial, const real* kept,
    const std::uint8_t* reset, const real* d_after, real* d_constants, real* d_initial, real* d_before,
    Advance advance, Reverse reverse, AdvanceBlock advance_block, ReverseBlock reverse_block) {
    const std::int64_t states = (time + KEPT - 1) / KEPT;
    const auto turn = [=](
        std::int64_t b, std::int64_t first, std::int64_t rows, real* history, real* scratch, auto back) {
        const std::int64_t place = b * ROWS + first, size = rows * STATE;
        real* const begun = history + (BLOCK + 1) * size;
        for (std::int64_t k = states - 1; k >= 0; --k) {
            const std::int64_t start = k * KEPT, length = std::min(KEPT, time - start), last = (length - 1) / BLOCK;
            const auto begins = [=](std::int64_t s, std::int64_t r) -> const real* {
                if (reset && reset[b * time + start + s * BLOCK]) return initial + (first + r) * STATE;
                return s ? begun + (s - 1) * size + r * STATE : kept + ((place + r) * states + k) * STATE;
            };
            const auto before = [=](std::int64_t begin, std::int64_t i, std::int64_t r) -> const real* {
                return reset && reset[begin + i] ? initial + (first + r) * STATE : history + i * size + r * STATE;
            };
            const auto filled = [=](std::int64_t s, std::int64_t begin, std::int64_t count) {
                for (std::int64_t r = 0; r < rows; ++r) std::copy_n(begins(s, r), STATE, history + r * STATE);
                for (std::int64_t i = 0; i < count; ++i) {
                    for (std::int64_t r = 0; r < rows; ++r) {
                        real* const after = history + (i + 1) * size + r * STATE;
                        advance(begin + i, first + r, before(begin, i, r), after, scratch);
                    }
                }
            };
            for (std::int64_t s = 0; s < last; ++s) {
                const std::int64_t t = start + s * BLOCK, at = b * time + t;
                if (is_block(t, at, time, reset)) {
                    for (std::int64_t r = 0; r < rows; ++r) {
                        advance_block(at, first + r, begins(s, r), begun + s * size + r * STATE, scratch);
                    }
                } else {
                    filled(s, at, BLOCK);
                    std::copy_n(history + BLOCK * size, size, begun + s * size);
                }
            }
            for (std::int64_t s = last; s >= 0; --s) {
                const std::int64_t t = start + s * BLOCK, at = b * time + t, count = std::min(BLOCK, time - t);
                if (is_block(t, at, time, reset)) {
                    back(at, [=](std::int64_t r, const real* d_now, real* d_later, real* d_shared) {
                        reverse_block(at, first + r, begins(s, r), nullptr, d_now, d_later, d_shared, scratch);
                    });
                    continue;
                }
                filled(s, at, count);
                for (std::int64_t i = count - 1; i >= 0; --i) {
                    back(at + i, [=](std::int64_t r, const real* d_now, real* d_later, real* d_shared) {
                        const real* const after = history + (i + 1) * size + r * STATE;
                        reverse(at + i, first + r, before(at, i, r), after, d_now, d_later, d_shared, scratch);
                    });
                }
            }
        }
    };
    backwards(
        threads, batch, reset, d_after, d_constants, d_initial, d_before, BLOCK + 1 + KEPT / BLOCK, turn);
}
