# graft::textkit: the Rust crate as a static library.
find_program(GRAFT_CARGO cargo REQUIRED HINTS "$ENV{HOME}/.cargo/bin")
set(textkit_dir "${CMAKE_BINARY_DIR}/textkit")
set(textkit_lib "${textkit_dir}/release/libtextkit.a")
file(GLOB textkit_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/textkit/src/*.rs")
add_custom_command(
  OUTPUT "${textkit_lib}"
  COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${textkit_dir} ${GRAFT_CARGO} build --release --locked --quiet
          --manifest-path "${CMAKE_SOURCE_DIR}/textkit/Cargo.toml"
  DEPENDS ${textkit_sources} "${CMAKE_SOURCE_DIR}/textkit/Cargo.toml" "${CMAKE_SOURCE_DIR}/textkit/Cargo.lock"
  COMMENT "cargo build textkit" VERBATIM)
add_custom_target(textkit_build DEPENDS "${textkit_lib}")
add_library(graft_textkit INTERFACE)
add_library(graft::textkit ALIAS graft_textkit)
add_dependencies(graft_textkit textkit_build)
target_include_directories(graft_textkit SYSTEM INTERFACE "${CMAKE_SOURCE_DIR}/textkit/include")
target_link_libraries(graft_textkit INTERFACE "${textkit_lib}" pthread dl m)
