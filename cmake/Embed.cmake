# Files that become part of a program, byte for byte: web pages, suite documents.

# kf_embed(TARGET FUNCTION files...): makes the files readable in TARGET through
# `std::span<const EmbeddedFile> kernelforge::FUNCTION()`, which the room declares where it needs it. A
# file of the folder that calls this is known by its path relative to it ("html/report.css"), one of
# a package by its name. A changed file is embedded again: its hash stands in the source, because
# ccache and a source that several are compiled with do not see what the assembler reads.
function(kf_embed target function)
  set(data)
  set(table)
  set(index 0)
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file OUTPUT_VARIABLE path)
    cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${path}" own)
    if(own)
      cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE name)
    else()
      cmake_path(GET path FILENAME name)
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${path}")
    file(SHA256 "${path}" hash)
    set(symbol ${target}_embedded_${index})
    # The assembler reads the file: the compiler would take seconds for it as an array.
    string(APPEND data
      "// ${hash}\n"
      "asm(\".section .rodata\\n\"\n    \"${symbol}_begin: .incbin \\\"${path}\\\"\\n\"\n"
      "    \"${symbol}_end:\\n\"\n    \".globl ${symbol}_begin, ${symbol}_end\\n\"\n"
      "    \".previous\");\n"
      "extern \"C\" const char ${symbol}_begin[], ${symbol}_end[];\n")
    string(APPEND table "    {\"${name}\", {${symbol}_begin, ${symbol}_end}},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${target}_embedded.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Made by kf_embed (cmake/Embed.cmake).
#include "kernelforge/support/EmbeddedFile.h"

#include <span>

@data@
namespace kernelforge {

std::span<const EmbeddedFile> @function@();
std::span<const EmbeddedFile> @function@() {
  static const EmbeddedFile files[] = {
@table@  };
  return files;
}

} // namespace kernelforge
]])
  target_sources(${target} PRIVATE ${source})
endfunction()
