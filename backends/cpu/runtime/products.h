// Products of matrices, a tile of the result at a time in registers.
namespace matrices {

#ifdef __GNUC__
#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
typedef real lanes __attribute__((vector_size(BYTES)));
#else
using lanes = real;
#endif
constexpr int LANES = sizeof(lanes) / sizeof(real);

// The tokens of a block, `stride` numbers apart, side by side.
template <int tokens, int count, std::int64_t stride>
inline void gather(const real* from, real* to) {
    for (int i = 0; i < tokens; ++i) {
        #pragma omp simd
        for (int k = 0; k < count; ++k) to[i * count + k] = from[i * stride + k];
    }
}

// `height` rows and `width` vectors of a product, which the compiler keeps in registers if all loops over them are
// written out; strides are those of rows and columns.
template <bool adds, class Vector, int height, int width, int depth, int AI, int AK, int BK, int CI, int CJ>
inline void tile(const real* a, const real* b, real* c) {
    constexpr int count = sizeof(Vector) / sizeof(real);
    Vector sums[height][width];
    #pragma GCC unroll 16
    for (int h = 0; h < height; ++h) {
        #pragma GCC unroll 16
        for (int w = 0; w < width; ++w) sums[h][w] = Vector{};
    }
    for (int k = 0; k < depth; ++k) {
        Vector right[width];
        #pragma GCC unroll 16
        for (int w = 0; w < width; ++w) std::memcpy(&right[w], b + k * BK + w * count, sizeof(Vector));
        #pragma GCC unroll 16
        for (int h = 0; h < height; ++h) {
            #pragma GCC unroll 16
            for (int w = 0; w < width; ++w) sums[h][w] += a[h * AI + k * AK] * right[w];
        }
    }
    #pragma GCC unroll 16
    for (int h = 0; h < height; ++h) {
        #pragma GCC unroll 16
        for (int w = 0; w < width; ++w) {
            real* const to = c + h * CI + w * count * CJ;
            if constexpr (CJ == 1) {
                Vector there{};
                if constexpr (adds) std::memcpy(&there, to, sizeof(Vector));
                there += sums[h][w];
                std::memcpy(to, &there, sizeof(Vector));
            } else {
                real apart[count];
                std::memcpy(apart, &sums[h][w], sizeof(Vector));
                for (int l = 0; l < count; ++l) to[l * CJ] = (adds ? to[l * CJ] : real(0)) + apart[l];
            }
        }
    }
}

template <bool adds, class Vector, int I, int width, int K, int AI, int AK, int BK, int CI, int CJ>
inline void stripe(const real* a, const real* b, real* c) {
    constexpr int height = 12 / width / (width == 1 ? 2 : 1), whole = I / height * height;
    for (int i = 0; i < whole; i += height) {
        tile<adds, Vector, height, width, K, AI, AK, BK, CI, CJ>(a + i * AI, b, c + i * CI);
    }
    if constexpr (whole < I) {
        tile<adds, Vector, I - whole, width, K, AI, AK, BK, CI, CJ>(a + whole * AI, b, c + whole * CI);
    }
}

// `c[i, j] = Σ_k a[i, k] b[k, j]`, or `+=` if it `adds`, with the columns of `b` side by side.
template <bool adds, int I, int J, int K, int AI, int AK, int BK, int CI, int CJ>
inline void multiplied(const real* a, const real* b, real* c) {
    constexpr int pairs = J / (2 * LANES) * (2 * LANES), whole = J / LANES * LANES;
    for (int j = 0; j < pairs; j += 2 * LANES) stripe<adds, lanes, I, 2, K, AI, AK, BK, CI, CJ>(a, b + j, c + j * CJ);
    if constexpr (pairs < whole) stripe<adds, lanes, I, 1, K, AI, AK, BK, CI, CJ>(a, b + pairs, c + pairs * CJ);
    for (int j = whole; j < J; ++j) stripe<adds, real, I, 1, K, AI, AK, BK, CI, CJ>(a, b + j, c + j * CJ);
}

// The same for any strides: the rows or columns of one matrix are brought side by side if those of none are.
template <bool adds, int I, int J, int K, int AI, int AK, int BK, int BJ, int CI, int CJ>
inline void product(const real* a, const real* b, real* c) {
    if constexpr (BJ == 1 && (CJ == 1 || AI != 1)) {
        multiplied<adds, I, J, K, AI, AK, BK, CI, CJ>(a, b, c);
    } else if constexpr (AI == 1) {
        multiplied<adds, J, I, K, BJ, BK, AK, CJ, CI>(b, a, c);
    } else if constexpr (I < J) {
        product<adds, J, I, K, BJ, BK, AK, AI, CJ, CI>(b, a, c);
    } else {
        real packed[K * J];
        for (int k = 0; k < K; ++k) {
            for (int j = 0; j < J; ++j) packed[k * J + j] = b[k * BK + j * BJ];
        }
        multiplied<adds, I, J, K, AI, AK, J, CI, CJ>(a, packed, c);
    }
}

// `x[i, j] = b[i, j] + Σ_k a[i, k] x[k, j]` over the rows k before i, or after it.
template <bool upper, int I, int J, int AI, int AK, int BI, int BJ, int CI, int CJ>
inline void solve(const real* a, const real* b, real* c) {
    for (int n = 0; n < I; ++n) {
        const int i = upper ? I - 1 - n : n;
        real sums[J];
        for (int j = 0; j < J; ++j) sums[j] = b[i * BI + j * BJ];
        for (int m = 0; m < n; ++m) {
            const int k = upper ? I - 1 - m : m;
            #pragma omp simd
            for (int j = 0; j < J; ++j) sums[j] += a[i * AI + k * AK] * c[k * CI + j * CJ];
        }
        for (int j = 0; j < J; ++j) c[i * CI + j * CJ] = sums[j];
    }
}

}  // namespace matrices

