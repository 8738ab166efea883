// A loop of one unit over arrays, called through ctypes by simulate.py.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "Vharness.h"
#include "verilated.h"

extern "C" void run(int rounding, int overflow, size_t count, const uint32_t* x, const uint32_t* y,
                    const uint32_t* z, const uint32_t* random, uint32_t* result, uint8_t* flags) {
    const auto context = std::make_unique<VerilatedContext>();
    const auto unit = std::make_unique<Vharness>(context.get());
    unit->rounding = rounding;
    unit->overflow = overflow;
    for (size_t i = 0; i < count; i++) {
        unit->x = x[i];
        unit->y = y[i];
        unit->z = z[i];
        unit->random = random[i];
        unit->eval();
        result[i] = unit->result;
        flags[i] = unit->flags;
    }
}
