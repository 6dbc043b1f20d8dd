// Calls a function of the unit above, by one thread and by two, which have to agree in every bit: `main FILE` reads what
// it is passed, and writes all arrays back.

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using Arrays = std::vector<std::vector<real>>;

template <class number>
void read(std::FILE* file, number* to, std::int64_t count) {
    if (count != 0 && static_cast<std::int64_t>(std::fread(to, sizeof(number), count, file)) != count) std::abort();
}

std::int64_t read_one(std::FILE* file) {
    std::int64_t x = 0;
    read(file, &x, 1);
    return x;
}

Arrays read_arrays(std::FILE* file) {
    Arrays arrays(read_one(file));
    for (std::vector<real>& array : arrays) {
        array.resize(read_one(file));
        read(file, array.data(), array.size());
    }
    return arrays;
}

std::vector<real*> pointers(Arrays& arrays) {
    std::vector<real*> found(arrays.size());
    for (std::size_t k = 0; k < arrays.size(); ++k) found[k] = arrays[k].data();
    return found;
}

bool same(const std::vector<Arrays>& groups, const std::vector<Arrays>& others) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
        for (std::size_t k = 0; k < groups[g].size(); ++k) {
            const std::vector<real>&x = groups[g][k], &y = others[g][k];
            if (!x.empty() && std::memcmp(x.data(), y.data(), x.size() * sizeof(real)) != 0) return false;
        }
    }
    return true;
}

struct Call {
    std::int64_t function, batch, time;
    const std::uint8_t* reset;

    void by(int threads, std::vector<Arrays>& groups) const {
        std::vector<std::vector<real*>> at;
        for (Arrays& arrays : groups) at.push_back(pointers(arrays));
        const auto all = [&](std::size_t k) { return at[k].data(); };
        const auto one = [&](std::size_t k) { return at[k].empty() ? nullptr : at[k][0]; };
        if (function == 0) {
            prepare(all(0), all(1));
        } else if (function == 1) {
            prepare_backward(all(0), all(1));
        } else if (function == 2) {
            forward(
                threads, batch, time, all(0), all(1), one(2), one(3), reset, all(4), one(5), one(6));
        } else {
            backward(
                threads, batch, time, all(0), all(1), one(2), one(3), reset, all(4), all(5), one(6), all(7), one(8),
                one(9), one(10));
        }
    }
};

}  // namespace

int main(int, char** arguments) {
    std::FILE* file = std::fopen(arguments[1], "rb");
    const std::int64_t function = read_one(file), batch = read_one(file), time = read_one(file);
    std::vector<std::uint8_t> flags(read_one(file));
    read(file, flags.data(), flags.size());
    const Call call{function, batch, time, flags.empty() ? nullptr : flags.data()};
    std::vector<Arrays> groups(read_one(file));
    for (Arrays& arrays : groups) arrays = read_arrays(file);
    std::fclose(file);
    std::vector<Arrays> others = groups;
    call.by(1, groups);
    call.by(2, others);
    if (!same(groups, others)) {
        std::fputs("two threads do not give the bits of one\n", stderr);
        return 1;
    }
    file = std::fopen(arguments[1], "wb");
    for (const Arrays& arrays : groups) {
        for (const std::vector<real>& array : arrays) {
            if (!array.empty()) std::fwrite(array.data(), sizeof(real), array.size(), file);
        }
    }
    std::fclose(file);
}
