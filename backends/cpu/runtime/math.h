// Elementary functions without branches, so that loops over them become vector code.  In single precision, against the
// exact result: exp, expm1, log and erf within 2 units in the last place, tanh, log1p and sigmoid within 3, softplus and
// log_sigmoid within 4.  In double precision they are those of the C library.

template <class to, class from>
inline to bits_of(from x) {
    static_assert(sizeof(to) == sizeof(from), "of one size");
    to y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

inline float power_of_two(std::int32_t n) {
    return bits_of<float>((n + 127) << 23);
}

// exp(x) = 2^n (1 + e): n is whole and within -150 … 128, and e is exp(r) - 1 for the small r that is left.
struct Reduced {
    float e;
    std::int32_t n;
};

inline Reduced reduced(float x) {
    const float y = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;
    const float shifted = y * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number
    const float n = shifted - 12582912.0f;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return {p * r * r + r, bits_of<std::int32_t>(shifted) - 0x4B400000};
}

[[maybe_unused]] inline float exp(float x) {
    const Reduced part = reduced(x);
    const std::int32_t half = part.n >> 1;
    return (1.0f + part.e) * power_of_two(half) * power_of_two(part.n - half);
}
[[maybe_unused]] inline double exp(double x) { return std::exp(x); }

[[maybe_unused]] inline float expm1(float x) {
    const Reduced part = reduced(x);
    const std::int32_t half = part.n >> 1;
    const float scale = power_of_two(half) * power_of_two(part.n - half);
    const float near = part.e * scale + (scale - 1.0f);
    return x > 80.0f ? (1.0f + part.e) * power_of_two(half) * power_of_two(part.n - half) : near;
}
[[maybe_unused]] inline double expm1(double x) { return std::expm1(x); }

[[maybe_unused]] inline float log(float x) {
    const bool tiny = x < 1.17549435e-38f;
    const float y = tiny ? x * 8388608.0f : x;
    const std::int32_t bits = bits_of<std::int32_t>(y);
    const std::int32_t places = (bits - 0x3F3504F3) >> 23;  // the mantissa lies between sqrt(1/2) and sqrt(2)
    const float f = bits_of<float>(bits - places * 0x800000) - 1.0f;
    const float e = static_cast<float>(places) - (tiny ? 23.0f : 0.0f);
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float z = f * f;
    const float near = e * 0.693359375f + (f + (p * f * z - e * 2.12194440e-4f - 0.5f * z));
    const float infinity = std::numeric_limits<float>::infinity();
    const float valid = x < infinity ? near : x;
    return x > 0.0f ? valid : x == 0.0f ? -infinity : std::numeric_limits<float>::quiet_NaN();
}
[[maybe_unused]] inline double log(double x) { return std::log(x); }

[[maybe_unused]] inline float log1p(float x) {
    const float u = 1.0f + x;
    const float d = u - 1.0f;
    const float near = d == 0.0f ? x : log(u) * (x / d);
    return u < std::numeric_limits<float>::infinity() ? near : u;
}
[[maybe_unused]] inline double log1p(double x) { return std::log1p(x); }

[[maybe_unused]] inline float tanh(float x) {
    const float size = x < 0.0f ? -x : x;
    const float e = expm1(2.0f * (size > 10.0f ? 10.0f : size));
    const float t = e / (e + 2.0f);
    return x < 0.0f ? -t : t;
}
[[maybe_unused]] inline double tanh(double x) { return std::tanh(x); }

// Minimax polynomials: of erf(x) / x - 1 in x^2, and where erf is nearly 1 of -log(erfc(x)) / x.
[[maybe_unused]] inline float erf(float x) {
    const float size = x < 0.0f ? -x : x;
    const float square = x * x;
    float p = -5.9994062437e-4f;
    p = p * square + 4.9948303795e-3f;
    p = p * square - 2.6767719952e-2f;
    p = p * square + 1.1281845951e-1f;
    p = p * square - 3.7612496460e-1f;
    p = p * square + 1.2837914996e-1f;
    const float t = size > 4.0f ? 4.0f : size;
    float q = 1.1231275488e-5f;
    q = q * t - 3.2280357213e-4f;
    q = q * t + 3.6424579585e-3f;
    q = q * t - 2.3762060843e-2f;
    q = q * t + 1.0623687545e-1f;
    q = q * t + 6.3515131764e-1f;
    q = q * t + 1.1286484900f;
    const float far = 1.0f - exp(-t * q);
    return x != x || size < 0.92f ? x + x * p : x < 0.0f ? -far : far;
}
[[maybe_unused]] inline double erf(double x) { return std::erf(x); }

template <class number>
inline number sigmoid(number x) {
    const number e = exp(x > 0 ? -x : x);
    return (x > 0 ? number(1) : e) / (1 + e);
}

template <class number>
inline number softplus(number x) {
    return (x > 0 ? x : number(0)) + log1p(exp(x > 0 ? -x : x));
}

template <class number>
inline number log_sigmoid(number x) {
    return -softplus(-x);
}

template <class number>
inline number inv_softplus(number x) {
    return x + log(-expm1(-x));
}

template <class number>
inline number gelu(number x) {
    return number(0.5) * x * (1 + erf(x * number(0.70710678118654752440)));
}

template <class number>
inline number gelu_tanh(number x) {
    return number(0.5) * x * (1 + tanh(number(0.79788456080286535588) * (x + number(0.044715) * x * x * x)));
}

template <class number>
inline number sqrt_bounded(number x) {
    return std::sqrt(x <= 0 ? number(0) : x);
}

template <class number>
inline number larger(number x, number y) {
    return x >= y || x != x ? x : y;
}

template <class number>
inline number smaller(number x, number y) {
    return x <= y || x != x ? x : y;
}

template <class number>
inline number relu(number x) {
    return x <= 0 ? number(0) : x;
}

template <class number>
inline number sign(number x) {
    return x > 0 ? number(1) : x < 0 ? number(-1) : 0 * x;
}

template <class number>
inline number modulo(number x, number y) {
    const number r = std::fmod(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

// The place itself if there is one of `count`, else the first or the last.
[[maybe_unused]] inline int nearest(int place, int count) {
    return place < 0 ? 0 : place < count ? place : count - 1;
}
